//! A SIGBUS of any cause does what it would do without us, and we stay. Each test is a process of its own,
//! as there is one handler for all of it.
#![expect(clippy::print_stdout, reason = "a process that dies has said how far it came")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

use super::super::memory::Memory;
use super::*;
use crate::page::page_size;

/// Runs `body` in a process of its own, which is this test alone, and returns how that ended.
fn alone(test: &str, body: fn()) -> Option<Output> {
    if env::var_os(ALONE).is_some() {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
        body();
        println!("{REACHED}");
        return None;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("region::sigbus::tests::{test}")])
        .env(ALONE, "1")
        .output();
    Some(output.unwrap())
}

/// Runs `body` alone; it must come to its end.
fn survives(test: &str, body: fn()) {
    let Some(output) = alone(test, body) else { return };
    let reached = String::from_utf8_lossy(&output.stdout).contains(REACHED);
    assert!(output.status.success() && reached, "{output:?}");
}

/// Runs `body` alone; it must die of its last SIGBUS.
fn dies(test: &str, body: fn()) {
    let Some(output) = alone(test, body) else { return };
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    assert!(out.contains(LAST) && !out.contains(REACHED), "{output:?}");
}

/// Says that what follows is to be the end.
fn last() {
    println!("{LAST}");
}

/// Maps a file, has it cut short, and looks at what is gone.
fn our_file_shrinks() {
    let page = page_size();
    let file = file_of(4 * page);
    let memory = Memory::file(file.path()).unwrap();
    file.as_file().set_len(page as u64).unwrap();
    let mut expected = vec![7; page];
    expected.resize(4 * page, 0);
    assert!(memory.file_bytes(0, 4 * page).unwrap().equals(&expected));
    assert!(memory.check(page).is_ok() && memory.check(page + 1).is_err());
}

/// Looks at a page of a mapping that we know nothing of, and that is gone from its file.
fn foreign_file_shrinks() {
    let file = file_of(page_size());
    let start = map(file.as_file());
    FOREIGN.store(start.addr(), Ordering::SeqCst);
    file.as_file().set_len(0).unwrap();
    // SAFETY: the page is mapped; whoever reads it gets a SIGBUS, which is the point.
    assert_eq!(unsafe { start.read_volatile() }, 0, "zeros in its place");
}

fn file_of(len: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; len]).unwrap();
    file
}

/// The first page of a file.
fn map(file: &File) -> *mut u8 {
    // SAFETY: a new mapping, which overlaps nothing.
    let start = unsafe {
        let flags = libc::MAP_SHARED;
        libc::mmap(ptr::null_mut(), page_size(), libc::PROT_READ, flags, file.as_raw_fd(), 0)
    };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

extern "C" fn recover_from_fault(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code == libc::BUS_ADRERR {
        assert_eq!(address, FOREIGN.load(Ordering::SeqCst));
    }
    recover(signal);
}

extern "C" fn recover(signal: c_int) {
    assert_eq!(signal, libc::SIGBUS);
    HITS.fetch_add(1, Ordering::SeqCst);
    let start = ptr::with_exposed_provenance_mut(FOREIGN.load(Ordering::SeqCst));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: in place of the foreign mapping, or of what was put there before.
    unsafe { libc::mmap(start, page_size(), libc::PROT_READ, flags, -1, 0) };
}

/// What the program does about a SIGBUS before it maps its first file.
fn before(handler: libc::sighandler_t, flags: c_int) {
    // What a handler is to replace if nothing foreign was mapped so far.
    FOREIGN.store(map(file_of(page_size()).as_file()).expose_provenance(), Ordering::SeqCst);
    set(Disposition { flags, ..Disposition::of(handler) });
}

/// Sends a SIGBUS from outside of any instruction, and waits until somebody has counted it.
fn killed() {
    let hits = HITS.load(Ordering::SeqCst);
    kill(Pid::this(), Signal::SIGBUS).unwrap();
    let begin = Instant::now();
    while HITS.load(Ordering::SeqCst) == hits {
        assert!(begin.elapsed() < Duration::from_secs(10), "the program's handler was not called");
        thread::yield_now();
    }
}

fn handler_of_three() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = recover_from_fault;
    handler as *const () as libc::sighandler_t
}

fn handler_of_one() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int) = recover;
    handler as *const () as libc::sighandler_t
}

/// Every cause after every other.
fn all_causes() {
    for round in 0..3 {
        our_file_shrinks();
        killed();
        our_file_shrinks();
        foreign_file_shrinks();
        our_file_shrinks();
        foreign_file_shrinks();
        killed();
        killed();
        our_file_shrinks();
        assert_eq!(HITS.load(Ordering::SeqCst), 5 * (round + 1));
    }
}

#[test]
fn the_handler_of_a_program_goes_on_working_and_so_does_ours() {
    survives("the_handler_of_a_program_goes_on_working_and_so_does_ours", || {
        before(handler_of_three(), libc::SA_SIGINFO);
        all_causes();
    });
}

#[test]
fn so_does_a_handler_that_is_told_nothing_but_the_signal() {
    survives("so_does_a_handler_that_is_told_nothing_but_the_signal", || {
        before(handler_of_one(), libc::SA_NODEFER);
        all_causes();
    });
}

#[test]
fn a_handler_for_one_signal_is_called_for_one() {
    dies("a_handler_for_one_signal_is_called_for_one", || {
        before(handler_of_one(), libc::SA_RESETHAND);
        our_file_shrinks();
        killed();
        our_file_shrinks();
        last();
        raise(Signal::SIGBUS).unwrap();
    });
}

#[test]
fn by_default_a_program_dies_of_a_signal() {
    dies("by_default_a_program_dies_of_a_signal", || {
        before(libc::SIG_DFL, 0);
        our_file_shrinks();
        last();
        raise(Signal::SIGBUS).unwrap();
    });
}

#[test]
fn by_default_a_program_dies_of_a_fault() {
    dies("by_default_a_program_dies_of_a_fault", || {
        before(libc::SIG_DFL, 0);
        our_file_shrinks();
        last();
        foreign_file_shrinks();
    });
}

#[test]
fn a_signal_that_is_ignored_changes_nothing() {
    survives("a_signal_that_is_ignored_changes_nothing", || {
        before(libc::SIG_IGN, 0);
        for _ in 0..3 {
            our_file_shrinks();
            kill(Pid::this(), Signal::SIGBUS).unwrap();
            raise(Signal::SIGBUS).unwrap();
            our_file_shrinks();
        }
    });
}

#[test]
fn a_fault_cannot_be_ignored() {
    dies("a_fault_cannot_be_ignored", || {
        before(libc::SIG_IGN, 0);
        our_file_shrinks();
        raise(Signal::SIGBUS).unwrap();
        our_file_shrinks();
        last();
        foreign_file_shrinks();
    });
}

/// The handler of Rust's runtime, which this process has, lets one go, and has the next be the end.
#[test]
fn a_handler_that_makes_way_for_the_default_does_not_take_ours_with_it() {
    dies("a_handler_that_makes_way_for_the_default_does_not_take_ours_with_it", || {
        let runtime = disposition().unwrap().handler;
        assert!(![libc::SIG_DFL, libc::SIG_IGN].contains(&runtime));
        our_file_shrinks();
        raise(Signal::SIGBUS).unwrap();
        our_file_shrinks();
        last();
        raise(Signal::SIGBUS).unwrap();
    });
}

#[test]
fn nor_does_it_keep_a_fault_from_being_the_end() {
    dies("nor_does_it_keep_a_fault_from_being_the_end", || {
        our_file_shrinks();
        last();
        foreign_file_shrinks();
    });
}

static HITS: AtomicUsize = AtomicUsize::new(0);
/// The mapping of the program's own that a fault is expected in.
static FOREIGN: AtomicUsize = AtomicUsize::new(0);
const ALONE: &str = "DOORBELL_SIGBUS_TEST";
const REACHED: &str = "came to its end";
const LAST: &str = "the next is the end";
