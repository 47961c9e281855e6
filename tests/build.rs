//! Compiles the interop contract, as `proto/build.rs` does the suite's own, and the suite's as tonic's
//! examples do, for the bench.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=interop/testing.proto");
    let descriptors = protox::compile(["testing.proto"], ["interop"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("testing.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false) // the client's channel is that of the suite's clients
        .compile_fds(descriptors)?;

    println!("cargo::rerun-if-changed=../proto");
    let contract = protox::compile(["helloworld.proto", "route_guide.proto"], ["../proto"])?;
    let stock = out.join("stock");
    fs::create_dir_all(&stock)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(stock)
        .compile_fds(contract)?;
    Ok(())
}
