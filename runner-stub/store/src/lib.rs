//! Extracted layers on the device: written aside, renamed, shared by all projects of a user.
