//! How many file descriptors the process may have.
#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that a process of this suite needs besides its connections: pipes, pollers, the listener.
const SPARE: u64 = 64;

/// Raises the soft limit to the hard one. A limit that cannot be raised stays as it is; [`allow`] then says so.
pub fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Only fails for a hard limit above the system's, and then the soft one may do as well.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Whether so many connections can be open in one process.
///
/// # Errors
///
/// They cannot, with the limit that says so.
pub fn allow(connections: usize) -> Result<(), String> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < connections as u64 + SPARE => Err(format!(
            "{connections} connections need {} file descriptors, the limit is {limit}",
            connections as u64 + SPARE
        )),
        _ => Ok(()),
    }
}
