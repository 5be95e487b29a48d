//! Command lines: arguments in, exit code out.
