//! The gRPC edge: requests in, domain calls, errors mapped to codes in one place.
