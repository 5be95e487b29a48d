//! Layers by content: one immutable EROFS file however many namespaces, profiles and snapshots use it.
