//! Compiles the suite's contract as tonic's examples do, for the bench.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let contract = protox::compile(["helloworld.proto", "route_guide.proto"], ["../../proto"])?;
    let stock = PathBuf::from(env::var("OUT_DIR")?).join("stock");
    fs::create_dir_all(&stock)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(stock)
        .compile_fds(contract)?;
    Ok(())
}
