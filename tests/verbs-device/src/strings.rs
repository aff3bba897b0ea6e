//! Names of enumerators.

use std::ffi::{CStr, c_char};

use ibverbs_dl::{ibv_event_type, ibv_node_type, ibv_port_state, ibv_wc_status};

#[unsafe(no_mangle)]
extern "C" fn ibv_wc_status_str(status: ibv_wc_status::Type) -> *const c_char {
    pick(&WC_STATUSES, status)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_event_type_str(event: ibv_event_type) -> *const c_char {
    pick(&EVENT_TYPES, event)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_port_state_str(state: ibv_port_state::Type) -> *const c_char {
    pick(&PORT_STATES, state)
}

#[unsafe(no_mangle)]
extern "C" fn ibv_node_type_str(node_type: ibv_node_type) -> *const c_char {
    pick(&NODE_TYPES, node_type.cast_unsigned())
}

fn pick(names: &[&'static CStr], value: u32) -> *const c_char {
    names.get(value as usize).unwrap_or(&c"unknown").as_ptr()
}

const WC_STATUSES: [&CStr; 24] = [
    c"success",
    c"local length error",
    c"local QP operation error",
    c"local EE context operation error",
    c"local protection error",
    c"Work Request Flushed Error",
    c"memory management operation error",
    c"bad response error",
    c"local access error",
    c"remote invalid request error",
    c"remote access error",
    c"remote operation error",
    c"transport retry counter exceeded",
    c"RNR retry counter exceeded",
    c"local RDD violation error",
    c"remote invalid RD request",
    c"aborted error",
    c"invalid EE context number",
    c"invalid EE context state",
    c"fatal error",
    c"response timeout error",
    c"general error",
    c"TM error",
    c"TM software rendezvous",
];

const EVENT_TYPES: [&CStr; 20] = [
    c"CQ error",
    c"local work queue catastrophic error",
    c"invalid request local work queue error",
    c"local access violation work queue error",
    c"communication established",
    c"send queue drained",
    c"path migrated",
    c"path migration request error",
    c"local catastrophic error",
    c"port active",
    c"port error",
    c"LID change",
    c"P_Key change",
    c"SM change",
    c"SRQ catastrophic error",
    c"SRQ limit reached",
    c"last WQE reached",
    c"client reregistration",
    c"GID table change",
    c"WQ fatal",
];

const PORT_STATES: [&CStr; 6] =
    [c"no state change (NOP)", c"down", c"init", c"armed", c"active", c"in active defer"];

const NODE_TYPES: [&CStr; 3] = [c"unknown", c"InfiniBand channel adapter", c"InfiniBand switch"];
