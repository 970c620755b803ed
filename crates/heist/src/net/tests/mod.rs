mod names;
mod tcp;
mod udp;
#[cfg(unix)]
mod unix;
