//! The layers of `cargo xtask bench unpack`.
