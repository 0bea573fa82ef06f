"""Many assets on equal terms: ``sweep`` over settings, ``evaluate`` for claims about diversity and quality."""
