//! Compiles the wire's .proto with a compiler written in Rust, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (root, file) = ("../proto/wire", "edgetrail/v1/link.proto");
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile([file], [root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
