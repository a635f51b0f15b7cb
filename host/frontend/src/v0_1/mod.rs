pub mod bindings; pub mod handles;
