"""Devices: what there is to compute on."""
