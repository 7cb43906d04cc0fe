"""The built-in families, a folder each: plugins of the core, which never imports them."""
