#![forbid(unsafe_code)]

mod names;
mod tcp;
mod udp;
#[cfg(unix)]
mod unix;
