//! Compiles the interop contract, as `proto/build.rs` does the suite's own.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=testing.proto");
    let descriptors = protox::compile(["testing.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("testing.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false) // the client's channel is that of the suite's clients
        .compile_fds(descriptors)?;
    Ok(())
}
