//! `towline.toml` and the host inventory: read, check, reload.
