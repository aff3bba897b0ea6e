//! The handler of SIGBUS, in front of the one that was there before.
//!
//! There is one handler for a whole process. A program may have its own, and the runtime of Rust has one, so
//! what is none of ours is passed on, as if we were not there, and we stay.

use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::watched;

/// What was to happen at a SIGBUS before us. Never freed: the handler may look at it at any time.
#[derive(Clone, Copy)]
struct Disposition {
    /// SIG_DFL, SIG_IGN, or a function.
    handler: libc::sighandler_t,
    flags: c_int,
    mask: libc::sigset_t,
}

/// Sets the handler up, once.
pub(super) fn install() {
    if cfg!(miri) {
        // There are no signals.
        return;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Known before it can be asked for.
        let Some(before) = disposition() else { return };
        let before: &'static Disposition = Box::leak(Box::new(before));
        PREVIOUS.store(ptr::from_ref(before).cast_mut(), Ordering::Release);
        set(before.ours());
    });
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, and for a SIGBUS of its own the address at fault.
    // errno is the thread's, and is put back: the signal came between any two instructions.
    unsafe {
        let errno = *libc::__errno_location();
        let address = (*info).si_addr().addr();
        if (*info).si_code != libc::BUS_ADRERR || !watched::replace(address) {
            pass_on(signal, info, context);
        }
        *libc::__errno_location() = errno;
    }
}

/// Does what would be done without us. We stay, unless that is to die, or another function was put in
/// our place.
///
/// # Safety
///
/// It is called by a handler of SIGBUS, with what that was given.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: null, or what `install` has leaked, or static.
    let Some(previous) = (unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: the kernel passes a valid siginfo_t.
    let is_fault = unsafe { is_fault((*info).si_code) };
    match previous.handler {
        libc::SIG_IGN if !is_fault => return,
        // The kernel lets nobody ignore a fault.
        libc::SIG_DFL | libc::SIG_IGN => {
            set(DEFAULT);
            if !is_fault {
                // SAFETY: a plain system call. It takes effect when the handler returns; a fault
                // comes again by itself, with its address for whoever looks at the core.
                unsafe { libc::raise(signal) };
            }
            return;
        }
        _ => {}
    }
    if previous.flags & libc::SA_RESETHAND != 0 {
        PREVIOUS.store(ptr::from_ref(&DEFAULT).cast_mut(), Ordering::Release);
    }
    // SAFETY: neither SIG_DFL nor SIG_IGN, so a function of the type that its flags tell: sigaction(2).
    unsafe {
        if previous.flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                mem::transmute(previous.handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = mem::transmute(previous.handler);
            handler(signal);
        }
    }
    // That of Rust's runtime, for one, makes way for the default at once.
    let left = match disposition().map(|now| now.handler) {
        Some(libc::SIG_DFL) => &DEFAULT,
        Some(libc::SIG_IGN) => &IGNORE,
        _ => return,
    };
    PREVIOUS.store(ptr::from_ref(left).cast_mut(), Ordering::Release);
    set(previous.ours());
}

/// Whether the instruction that got a SIGBUS is run again and gets it again, rather than it having been
/// sent, or telling of a page that nobody has read: sigaction(2).
fn is_fault(code: c_int) -> bool {
    code > 0 && code != libc::BUS_MCEERR_AO
}

impl Disposition {
    const fn of(handler: libc::sighandler_t) -> Self {
        // SAFETY: a set of integers, and empty: signal.h of both glibc and musl.
        Self { handler, flags: 0, mask: unsafe { mem::zeroed() } }
    }

    /// Our handler, under the conditions that this one asked for.
    fn ours(self) -> Self {
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
        let kept = match self.handler {
            // What is ignored interrupts no system call.
            libc::SIG_DFL | libc::SIG_IGN => libc::SA_RESTART | libc::SA_ONSTACK,
            // One that did not ask for the alternate stack may need more than there is on it.
            _ => self.flags & (libc::SA_RESTART | libc::SA_NODEFER | libc::SA_ONSTACK),
        };
        Self {
            handler: handler as *const () as libc::sighandler_t,
            flags: libc::SA_SIGINFO | kept,
            mask: self.mask,
        }
    }
}

/// What happens at a SIGBUS now.
fn disposition() -> Option<Disposition> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` has room for what is there, and is read only if it was written.
    unsafe {
        if libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) != 0 {
            return None;
        }
        let action = action.assume_init();
        Some(Disposition {
            handler: action.sa_sigaction,
            flags: action.sa_flags,
            mask: action.sa_mask,
        })
    }
}

/// Says what is to happen at a SIGBUS.
fn set(disposition: Disposition) {
    // SAFETY: a structure of integers and an optional function. A function that is set is of the type
    // that the flags tell, and calls but what signal-safety(7) allows, or was set by somebody before.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = disposition.handler;
        action.sa_flags = disposition.flags;
        action.sa_mask = disposition.mask;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

static PREVIOUS: AtomicPtr<Disposition> = AtomicPtr::new(ptr::null_mut());
static DEFAULT: Disposition = Disposition::of(libc::SIG_DFL);
static IGNORE: Disposition = Disposition::of(libc::SIG_IGN);

// Each of them starts a process, which Miri does not.
#[cfg(all(test, not(miri)))]
mod tests;
