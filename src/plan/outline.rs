//! The jobs of a plan before anything ran.
