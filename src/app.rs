//! The life of the daemon: from settings to a served socket, and down again.
