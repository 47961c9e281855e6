//! Compiles the protocols of the chassis without `protoc`. Their files have the names by which every other
//! implementation knows them; comments stay out of the descriptors, which are part of each binary.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use protox::Compiler;

const V1ALPHA: &str = ".grpc.reflection.v1alpha";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let generator = || tonic_prost_build::configure().build_transport(false);
    generator().compile_fds(described("health", &["grpc/health/v1/health.proto"])?)?;
    let versions =
        ["v1", "v1alpha"].map(|version| format!("grpc/reflection/{version}/reflection.proto"));
    generator()
        .build_client(false)
        // A file goes into each reply that holds it without being copied.
        .bytes(".grpc.reflection.v1.FileDescriptorResponse")
        // But for their names, the messages of the two versions are the same.
        .extern_path(V1ALPHA, "crate::services::reflection::v1")
        .compile_fds(described("reflection", &versions)?)?;
    described(
        "google_rpc",
        &["google/rpc/error_details.proto", "google/rpc/status.proto"],
    )?;
    Ok(())
}

/// The descriptors of files and of what they import, which are also written to `OUT_DIR`.
fn described(name: &str, files: &[impl AsRef<str>]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true);
    compiler.open_files(files.iter().map(AsRef::as_ref))?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?).join(format!("{name}.bin"));
    fs::write(out, descriptors.encode_to_vec())?;
    Ok(descriptors)
}
