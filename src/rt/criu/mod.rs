//! Speaking with CRIU (criu.org), which writes the processes of a container to files and makes them
//! again: its messages, and the worker that is started for each request. What there is to tell it is
//! decided in `launch/checkpoint.rs` and `launch/restore.rs`.

pub mod rpc;
pub mod worker;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::rpc::Response;

    #[test]
    fn fuzz_answers() {
        let seeds: [&[u8]; 3] =
            [&[0x08, 0x06, 0x10, 0x01], &[0x08, 0x01, 0x10, 0x00, 0x40, 0x02, 0x4a, 0x01, 0x78], &[]];
        crate::fuzz::fuzz(&seeds, |bytes| drop(Response::decode(bytes)));
    }
}
