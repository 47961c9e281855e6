//! Compiles the contract without `protoc`: protox parses, tonic-prost-build generates into `OUT_DIR`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["helloworld.proto", "route_guide.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::Codec")
        .build_transport(false) // how a channel is opened is the clients' business
        // Field names in JSON are those of the ProtoJSON mapping.
        .message_attribute(".", "#[derive(serde::Serialize)]")
        .message_attribute(".", r#"#[serde(rename_all = "camelCase")]"#)
        .compile_fds(descriptors)?;
    Ok(())
}
