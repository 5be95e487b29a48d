//! Apply: a layer stream in, an EROFS layer out.
