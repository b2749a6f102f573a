//! Tests of the area `expressions` against the built binary, known answers and real parts.
