//! What the embedded engine owes beyond the contract: its file, its locks, its failures.
