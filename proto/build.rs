//! Compiles the contract without `protoc`: protox parses, tonic-prost-build generates into `OUT_DIR`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Each by itself, because a server describes what it serves, and no more.
    for name in ["helloworld", "route_guide"] {
        let file = format!("{name}.proto");
        println!("cargo::rerun-if-changed={file}");
        let descriptors = protox::compile([file], ["."])?;
        fs::write(out.join(format!("{name}.bin")), descriptors.encode_to_vec())?;
        tonic_prost_build::configure()
            .codec_path("crate::Codec")
            .build_transport(false) // how a channel is opened is the clients' business
            // Field names in JSON are those of the ProtoJSON mapping.
            .message_attribute(".", "#[derive(serde::Serialize)]")
            .message_attribute(".", r#"#[serde(rename_all = "camelCase")]"#)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
