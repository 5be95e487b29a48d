//! Settings: flags and the TOML file, merged and validated before anything is touched.
