"""Who vouches for a bundle: signed with a key of one's own, checked before it is loaded, without any network."""
