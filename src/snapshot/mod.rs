//! The rules of the containerd snapshot model, as a state machine that knows no protobuf type.
