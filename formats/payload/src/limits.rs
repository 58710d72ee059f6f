//! Bounds on everything a payload may claim, so that a hostile one cannot make a reader allocate at will.

/// Most bytes that one frame may decompress to.
pub const MAX_FRAME_RAW: u32 = 32 << 20;

/// Most bytes that one frame may take in the file: incompressible data and zstd's overhead for it.
pub const MAX_FRAME_STORED: u32 = MAX_FRAME_RAW + (MAX_FRAME_RAW >> 7) + 1024;

/// Most bytes that one chunk may hold.
pub const MAX_CHUNK: u32 = 4 << 20;

/// Most bytes that the index may decompress to.
pub const MAX_INDEX_RAW: u64 = 256 << 20;

/// Most bytes that the compressed index may take in the file.
pub const MAX_INDEX_STORED: u64 = MAX_INDEX_RAW + (MAX_INDEX_RAW >> 7) + 1024;

/// Most bytes of the annex between index and trailer.
pub const MAX_ANNEX: u64 = 1 << 20;

/// Most bytes of section headers and section names that are read from an ELF file.
pub(crate) const MAX_SECTION_TABLE: u64 = 4 << 20;

/// Most bytes of what stands before the payload in an executable (the stub with its new section headers).
pub const MAX_HEAD: u64 = 256 << 20;
