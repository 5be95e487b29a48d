//! System calls that no library offers safely. The only room with `unsafe`.
