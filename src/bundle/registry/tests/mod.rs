//! The client against registries: a real one, and ones that misbehave.
