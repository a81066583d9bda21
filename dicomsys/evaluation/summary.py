"""What somebody sees once the instance is ready: where it is, who to sign in as, what to try first."""

import json

from dicomsys.evaluation.folder import Folder


def addresses(folder: Folder) -> str:
    """Page address, user and DICOM address, one line each; nothing for an instance of services only."""
    endpoints = json.loads(folder.endpoints_file.read_text())
    if "web" not in endpoints:
        return f"  Settings  {folder.env_file}"
    dicom, admin = endpoints["dicom"], endpoints["admin"]
    return (
        f"  Page      {endpoints['web']['url']}\n"
        f"  DICOM     AE title {dicom['ae_title']}, host {dicom['host']}, port {dicom['port']}\n"
        f"  User      {admin['username']}   (password in {admin['password_file']})"
    )


def summary(folder: Folder, elapsed_s: float, detached: bool) -> str:
    """The addresses, three things to try, and how to end it."""
    endpoints = json.loads(folder.endpoints_file.read_text())
    dicom, page = endpoints["dicom"], endpoints["web"]["url"]
    end = "./start stop" if detached else "Ctrl-C"
    return (
        f"\nReady after {elapsed_s:.0f} s. It ends with {end}.\n\n{addresses(folder)}\n\n"
        "Three things to try:\n"
        f"  1. Sign in at {page}, open a study and make a film sheet as PDF.\n"
        f"  2. Send images from here:  storescu -aec {dicom['ae_title']} {dicom['host']} {dicom['port']} FILE…\n"
        "  3. See that all is well:   ./start status   and   ./start manage doctor\n"
    )
