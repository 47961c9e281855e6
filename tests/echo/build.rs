//! Compiles the echo contract, as `proto/build.rs` does the suite's own.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=echo.proto");
    let descriptors = protox::compile(["echo.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("echo.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false) // a test opens its own channel
        .compile_fds(descriptors)?;
    Ok(())
}
