"""Who did what: records that hang together, so that none can be changed or taken out unseen."""
