//! heist-io
