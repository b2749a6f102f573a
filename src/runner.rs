//! One order on one host: steps, actions, outputs, resumption.
