//! Golden plans: the real documents of engines, planned for a host of known facts.
