//! heist-core
