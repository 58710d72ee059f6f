//! The table. One row per platform that executables can be built for; nothing else in the project lists them.
//!
//! Only `std`: the build script includes this file as well.

/// Everything that depends on the architecture of a device, except what the runner itself is compiled for.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// OCI platform in its normal form.
    pub platform: &'static str,
    /// What distinguishes the executables of one application: `shop-<suffix>`.
    pub suffix: &'static str,
    /// Rust target triple of the stub.
    pub triple: &'static str,
    /// What the stub's ELF header must say.
    pub elf: ElfIdentity,
    /// Architecture in Debian's words.
    pub debian: &'static str,
    /// Flags for Rust code on this architecture, on top of [`RUST_FLAGS`].
    pub rust_flags: &'static [&'static str],
    /// Compiles the C code in the stub's dependencies.
    pub c_compiler: CCompiler,
    /// Stands in for a device in the tests.
    pub emulator: Emulator,
}

/// The part of an ELF header that tells architectures apart (gABI, "ELF Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfIdentity {
    /// `EI_CLASS`: 1 for 32-bit, 2 for 64-bit.
    pub class: u8,
    /// `e_machine`; every target here is little-endian.
    pub machine: u16,
}

/// A C compiler for one target.
#[derive(Debug, PartialEq, Eq)]
pub struct CCompiler {
    /// Commands, the best first; the last one is what the hint names when none is there.
    pub programs: &'static [&'static str],
    /// Debian packages of the first command and of the headers that it wants: a cross compiler only recommends them.
    pub packages: &'static [&'static str],
    /// Flags for this architecture, on top of [`C_FLAGS`].
    pub flags: &'static [&'static str],
}

/// How to emulate a device with a Debian kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Emulator {
    /// The system emulator.
    pub program: &'static str,
    /// Debian package of the emulator.
    pub package: &'static str,
    /// Machine and processor.
    pub machine: &'static [&'static str],
    /// What virtio devices are called on that machine: `virtio-blk-<bus>`.
    pub bus: &'static str,
    /// Serial console.
    pub console: &'static str,
    /// Debian package that depends on the current kernel.
    pub kernel_package: &'static str,
    /// More kernel arguments.
    pub kernel_arguments: &'static str,
}

/// Flags for C code in every stub. The compilers may be made for glibc, whose fortified functions musl does not have; and
/// the compiler's version has no place in a stub.
pub const C_FLAGS: &[&str] =
    &["-U_FORTIFY_SOURCE", "-fno-ident", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];

/// Flags for Rust code in every stub. A stub aborts on a panic: our code needs no tables for unwinding, and the linker
/// script leaves out those of the precompiled standard library. Functions with the same code become one. The path is
/// relative to the workspace, where Cargo starts the compiler.
pub const RUST_FLAGS: &[&str] =
    &["-Cforce-unwind-tables=no", "-Clink-arg=-Ttargets/stub.ld", "-Clink-arg=--icf=all"];

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        platform: "linux/amd64",
        suffix: "amd64",
        triple: "x86_64-unknown-linux-musl",
        elf: ElfIdentity { class: 2, machine: 62 },
        debian: "amd64",
        rust_flags: &[],
        c_compiler: CCompiler { programs: &["musl-gcc", "gcc"], packages: &["musl-tools"], flags: &[] },
        emulator: Emulator {
            program: "qemu-system-x86_64",
            package: "qemu-system-x86",
            machine: &["-M", "pc", "-cpu", "max"],
            bus: "pci",
            console: "ttyS0",
            kernel_package: "linux-image-cloud-amd64",
            kernel_arguments: "",
        },
    },
    Target {
        platform: "linux/arm64",
        suffix: "arm64",
        triple: "aarch64-unknown-linux-musl",
        elf: ElfIdentity { class: 2, machine: 183 },
        debian: "arm64",
        rust_flags: &[],
        c_compiler: CCompiler {
            programs: &["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"],
            packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
            // the helpers that outlined atomics call are in libgcc, which is not linked
            flags: &["-mno-outline-atomics"],
        },
        emulator: Emulator {
            program: "qemu-system-aarch64",
            package: "qemu-system-arm",
            machine: &["-M", "virt", "-cpu", "cortex-a72"],
            bus: "device",
            console: "ttyAMA0",
            kernel_package: "linux-image-cloud-arm64",
            // page-table isolation makes every system call ten times slower under emulation
            kernel_arguments: "kpti=off",
        },
    },
    Target {
        platform: "linux/arm/v7",
        suffix: "armv7",
        triple: "armv7-unknown-linux-musleabihf",
        elf: ElfIdentity { class: 1, machine: 40 },
        debian: "armhf",
        // every ARMv7-A has Thumb-2, a quarter smaller; Debian's C compiler takes it by itself
        rust_flags: &["-Ctarget-feature=+thumb-mode"],
        c_compiler: CCompiler {
            programs: &["arm-linux-musleabihf-gcc", "arm-linux-gnueabihf-gcc"],
            packages: &["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
            // the least that armv7-unknown-linux-musleabihf promises: 16 double registers and no NEON
            flags: &["-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"],
        },
        emulator: Emulator {
            program: "qemu-system-arm",
            package: "qemu-system-arm",
            machine: &["-M", "virt,highmem=off", "-cpu", "cortex-a15"],
            bus: "device",
            console: "ttyAMA0",
            kernel_package: "linux-image-armmp-lpae",
            kernel_arguments: "",
        },
    },
];

impl Target {
    /// The row of an OCI platform in its normal form, such as `linux/arm/v7`.
    pub fn for_platform(platform: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.platform == platform)
    }

    /// The row of a Rust triple.
    pub fn for_triple(triple: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.triple == triple)
    }

    /// The row of the machine this runs on, in the words of `std::env::consts::ARCH`.
    pub fn host() -> Option<&'static Target> {
        Self::for_platform(match std::env::consts::ARCH {
            "x86_64" => "linux/amd64",
            "aarch64" => "linux/arm64",
            "arm" => "linux/arm/v7",
            _ => return None,
        })
    }
}

impl ElfIdentity {
    /// Reads the identity from the first bytes of a file; `None` when it is no little-endian ELF file.
    pub fn of(file: &[u8]) -> Option<Self> {
        match file.get(..20)? {
            [0x7f, b'E', b'L', b'F', class, 1, .., low, high] => {
                Some(Self { class: *class, machine: u16::from_le_bytes([*low, *high]) })
            }
            _ => None,
        }
    }
}
