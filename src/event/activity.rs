//! Which events start workflows, and which of their activity types count (T6, T18).
