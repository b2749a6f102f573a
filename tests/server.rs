//! Tests of the area `server` against the built binary, known answers and real parts.
