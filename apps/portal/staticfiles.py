"""How static files are collected: names carry a hash, and nobody asks for source maps that are not shipped."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Tabler's files name a source map that its package leaves out: the stock storage would stop there.

    `import` statements are not rewritten: each module of ours stands alone.
    """

    patterns = tuple(
        (extension, tuple(pattern for pattern in patterns if "sourceMappingURL" not in str(pattern)))
        for extension, patterns in CompressedManifestStaticFilesStorage.patterns
    )
