//! Apply: a layer blob of containerd's content store in, an EROFS layer out.

mod chunk;
mod content;
mod media;
mod pass;
mod turns;
