//! The files that a server describes, by what they declare.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
};

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};

/// A `google.protobuf.FileDescriptorSet` whose files are left encoded: they are sent as they were given,
/// with options that nothing here knows.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

/// A place in `DescriptorPool::files`.
type FileIndex = usize;

/// What is found by name, and where it is declared.
#[derive(Debug, Default)]
pub(super) struct DescriptorPool {
    files: Vec<File>,
    names: HashMap<String, FileIndex>,
    symbols: HashMap<String, FileIndex>,
    /// By the full name of the message that is extended, and the number.
    extensions: HashMap<String, BTreeMap<i32, FileIndex>>,
}

#[derive(Debug)]
struct File {
    encoded: Bytes,
    /// Names of files.
    imports: Vec<String>,
}

impl DescriptorPool {
    /// The files of all these encoded sets. Of several that have one name, the first is taken.
    pub(super) fn new(sets: &[&'static [u8]]) -> Result<Self, DecodeError> {
        let mut pool = Self::default();
        for set in sets {
            for encoded in EncodedSet::decode(Bytes::from_static(set))?.file {
                pool.add(encoded)?;
            }
        }
        Ok(pool)
    }

    fn add(&mut self, encoded: Bytes) -> Result<(), DecodeError> {
        let file = FileDescriptorProto::decode(encoded.clone())?;
        if self.names.contains_key(file.name()) {
            return Ok(());
        }
        self.names.insert(file.name().to_owned(), self.files.len());
        let package = file.package();
        self.add_extensions(package, &file.extension);
        self.add_enums(package, &file.enum_type);
        for message in &file.message_type {
            self.add_message(package, message);
        }
        for service in &file.service {
            self.add_service(package, service);
        }
        self.files.push(File {
            encoded,
            imports: file.dependency,
        });
        Ok(())
    }

    /// Adds a symbol of the file that is being added, and returns its full name.
    fn add_symbol(&mut self, scope: &str, name: &str) -> String {
        let name = match scope {
            "" => name.to_owned(),
            scope => format!("{scope}.{name}"),
        };
        self.symbols.insert(name.clone(), self.files.len());
        name
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = self.add_symbol(scope, message.name());
        for field in &message.field {
            self.add_symbol(&name, field.name());
        }
        for oneof in &message.oneof_decl {
            self.add_symbol(&name, oneof.name());
        }
        self.add_extensions(&name, &message.extension);
        self.add_enums(&name, &message.enum_type);
        for nested in &message.nested_type {
            self.add_message(&name, nested);
        }
    }

    fn add_enums(&mut self, scope: &str, enums: &[EnumDescriptorProto]) {
        for declared in enums {
            self.add_symbol(scope, declared.name());
            // As in C++, a value is named in the scope that its enum is declared in.
            for value in &declared.value {
                self.add_symbol(scope, value.name());
            }
        }
    }

    fn add_extensions(&mut self, scope: &str, extensions: &[FieldDescriptorProto]) {
        for extension in extensions {
            self.add_symbol(scope, extension.name());
            // A full name begins with a dot here.
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            let numbers = self.extensions.entry(extended).or_default();
            numbers.insert(extension.number(), self.files.len());
        }
    }

    fn add_service(&mut self, scope: &str, service: &ServiceDescriptorProto) {
        let name = self.add_symbol(scope, service.name());
        for method in &service.method {
            self.add_symbol(&name, method.name());
        }
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn file(&self, name: &str) -> Option<FileIndex> {
        self.names.get(name).copied()
    }

    /// The file that declares what has this full name, such as `helloworld.Greeter.SayHello`.
    pub(super) fn file_of_symbol(&self, name: &str) -> Option<FileIndex> {
        self.symbols.get(name).copied()
    }

    /// The file that declares the extension of a message with this number.
    pub(super) fn file_of_extension(&self, extended: &str, number: i32) -> Option<FileIndex> {
        self.extensions.get(extended)?.get(&number).copied()
    }

    /// The numbers of the extensions of a message, ascending; `None` for an unknown name.
    pub(super) fn extension_numbers(&self, extended: &str) -> Option<Vec<i32>> {
        match self.extensions.get(extended) {
            Some(numbers) => Some(numbers.keys().copied().collect()),
            None => self.file_of_symbol(extended).map(|_| Vec::new()),
        }
    }

    /// A file and its transitive imports, without those imports that are marked in `sent`; marks what it returns.
    /// As in grpc-go, the file itself is sent each time.
    pub(super) fn with_imports(&self, file: FileIndex, sent: &mut [bool]) -> Vec<Bytes> {
        sent[file] = false;
        let mut answer = Vec::new();
        let mut waiting = VecDeque::from([file]);
        while let Some(file) = waiting.pop_front() {
            // The imports of what the stream has had went with it.
            if !mem::replace(&mut sent[file], true) {
                let File { encoded, imports } = &self.files[file];
                answer.push(encoded.clone());
                waiting.extend(imports.iter().filter_map(|name| self.file(name)));
            }
        }
        answer
    }
}
