//! What gRPC reflection tells: the messages of `merganser.v1`.

/// The encoded descriptors of `merganser.v1`.
pub fn descriptors() -> &'static [u8] {
    crate::proto::DESCRIPTORS
}
