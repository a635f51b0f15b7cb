//! Real containers from a busybox root, as root and as a plain user.
mod emulation;
mod guard;
mod kit;
mod lend;
mod limits;
mod plain;
mod run;
mod security;

rhost_exec::init_before_main!();
