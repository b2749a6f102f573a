//! A step's start file.
