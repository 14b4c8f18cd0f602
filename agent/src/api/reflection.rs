//! gRPC reflection: tools such as grpcurl learn from it what the socket serves (Workload Endpoint, section 7).
//!
//! Invariant: it names what is served on this socket and nothing else.

use credence_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::service::RoutesBuilder;
use tonic_reflection::server::{Builder, Error};

/// Adds both versions of the service, which name `services` and themselves.
pub(super) fn add_to(routes: &mut RoutesBuilder, services: &[&str]) -> Result<(), Error> {
    let files = files_of(services)?;
    let builder = || Builder::configure().register_file_descriptor_set(files.clone());
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok(())
}

/// The files that define `services`, with all that these import.
fn files_of(services: &[&str]) -> Result<FileDescriptorSet, Error> {
    let mut all = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?.file;
    let mut wanted: Vec<String> = Vec::new();
    for file in &all {
        let defines = |name: &str| match file.package() {
            "" => services.contains(&name),
            package => services.contains(&format!("{package}.{name}").as_str()),
        };
        if file.service.iter().any(|service| defines(service.name())) {
            wanted.push(file.name().to_owned());
        }
    }
    let mut looked_at = 0;
    while let Some(name) = wanted.get(looked_at) {
        let file = all.iter().find(|file| file.name() == name);
        let imports = file.map(|file| file.dependency.clone()).unwrap_or_default();
        for import in imports {
            if !wanted.contains(&import) {
                wanted.push(import);
            }
        }
        looked_at += 1;
    }
    all.retain(|file| wanted.iter().any(|name| name == file.name()));
    Ok(FileDescriptorSet { file: all })
}
