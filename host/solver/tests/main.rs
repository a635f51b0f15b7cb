//! The solver against small graphs written as text, and against a naive evaluator over random graphs.
mod model;
mod recall;
mod speed;
mod text;
