//! Frontends as the engine uses them: hostile guests, strange bytes, the private cache, and real guests where they are built.
mod archive;
mod guests;
mod hostile;
mod kit;
mod lines;
mod loading;
mod real;
mod replay;
