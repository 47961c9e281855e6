//! Compiles the health protocol without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=health.proto");
    let descriptors = protox::compile(["health.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("health.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
