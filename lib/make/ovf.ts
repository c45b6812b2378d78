/**
 * The descriptor of a virtual machine with one disk.
 *
 * - Open Virtualization Format, DSP0243 1.1: https://www.dmtf.org/standards/ovf
 * - Types of hardware: CIM_ResourceAllocationSettingData.ResourceType
 * - The firmware, which OVF has no element for, as VMware writes it: `vmw:Config`
 * - VirtualBox takes no notice of that, and makes a machine with BIOS unless it finds settings in its own format:
 *   https://www.virtualbox.org/browser/vbox/trunk/src/VBox/Main/xml/VirtualBox-settings.xsd
 *
 * @module
 */

import { deriveUuid } from "../core/identity.ts";
import { type OsRelease, rowFor } from "../tree/os-release.ts";

/** What a descriptor says. */
interface Machine {
  readonly name: string;
  readonly osRelease: OsRelease;
  readonly isX86: boolean;
  readonly firmware: "uefi" | "bios" | "hybrid";
  /** What UUIDs are derived from. */
  readonly seed: string;
  /** Sizes are in bytes. */
  readonly disk: { readonly file: string; readonly fileSize: number; readonly capacity: number };
}

/** Operating systems: CIM_OperatingSystem.OSType, and the names of VMware and VirtualBox for them. */
const SYSTEMS = [
  { ids: ["debian"], type: 96, vmware: "debian10_64Guest", virtualbox: "Debian_64" },
  { ids: ["ubuntu"], type: 94, vmware: "ubuntu64Guest", virtualbox: "Ubuntu_64" },
  { ids: ["rhel"], type: 80, vmware: "rhel7_64Guest", virtualbox: "RedHat_64" },
  { ids: ["sles", "suse"], type: 85, vmware: "sles12_64Guest", virtualbox: "OpenSUSE_64" },
] as const;

/** Any other Linux with 64 bits. */
const OTHER = { type: 101, vmware: "other3xLinux64Guest", virtualbox: "Linux_64" };

/** What the machine has, which its user may change. */
const CPUS = 2, MEMORY_MB = 2048;

/** The descriptor, in OVF 1.1, which everything reads. */
export function ovfOf({ name, osRelease, isX86, firmware, seed, disk }: Machine): string {
  const uuids = { machine: deriveUuid(seed, "ova/machine"), disk: deriveUuid(seed, "ova/disk") };
  const isEfi = firmware !== "bios";
  const system = isX86 ? rowFor(osRelease, SYSTEMS) ?? OTHER : OTHER;
  const title = escape(name);
  const os = escape(osRelease["PRETTY_NAME"] || osRelease["NAME"] || "Linux");
  const osType = isX86 ? ` vmw:osType="${system.vmware}"` : "";
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
    xmlns:vbox="http://www.virtualbox.org/ovf/machine"
    xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="${disk.file}" ovf:id="file1" ovf:size="${disk.fileSize}"/>
  </References>
  <DiskSection>
    <Info>The disk</Info>
    <Disk ovf:capacity="${disk.capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="disk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" vbox:uuid="${uuids.disk}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The network</Info>
    <Network ovf:name="VM Network">
      <Description>The network that the machine is connected to</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="${title}">
    <Info>A machine with one disk</Info>
    <Name>${title}</Name>
    <OperatingSystemSection ovf:id="${system.type}"${osType}>
      <Info>The operating system</Info>
      <Description>${os}</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>The hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${title}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-14</vssd:VirtualSystemType>
      </System>
${
    [
      item({
        AllocationUnits: "hertz * 10^6",
        ElementName: `${CPUS} processors`,
        InstanceID: 1,
        ResourceType: 3,
        VirtualQuantity: CPUS,
      }),
      item({
        AllocationUnits: "byte * 2^20",
        ElementName: `${MEMORY_MB} MiB of memory`,
        InstanceID: 2,
        ResourceType: 4,
        VirtualQuantity: MEMORY_MB,
      }),
      // AHCI, since a driver for it is in every kernel.
      item({
        Address: 0,
        ElementName: "SATA controller 0",
        InstanceID: 3,
        ResourceSubType: "vmware.sata.ahci",
        ResourceType: 20,
      }),
      item({
        AddressOnParent: 0,
        ElementName: "Disk 1",
        HostResource: "ovf:/disk/disk1",
        InstanceID: 4,
        Parent: 3,
        ResourceType: 17,
      }),
      item({
        AutomaticAllocation: true,
        Connection: "VM Network",
        ElementName: "Network adapter 1",
        InstanceID: 5,
        ResourceSubType: "E1000",
        ResourceType: 10,
      }),
    ].join("")
  }      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="${isEfi ? "efi" : "bios"}"/>
    </VirtualHardwareSection>
${isX86 ? virtualBoxMachine({ title, osType: system.virtualbox, isEfi, uuids }) : ""}  </VirtualSystem>
</Envelope>
`;
}

/**
 * The same machine as VirtualBox describes it; others leave it out, since it is not required. In version 1.16, of
 * VirtualBox 5.1, which has fitting defaults for what is not named here. UUIDs are replaced by new ones at each import.
 */
function virtualBoxMachine(
  { title, osType, isEfi, uuids }: {
    readonly title: string;
    readonly osType: string;
    readonly isEfi: boolean;
    readonly uuids: { readonly machine: string; readonly disk: string };
  },
): string {
  return `    <vbox:Machine ovf:required="false" version="1.16-linux" uuid="{${uuids.machine}}" name="${title}" OSType="${osType}">
      <Info>The machine in the format of VirtualBox</Info>
      <Hardware>
        <CPU count="${CPUS}"/>
        <Memory RAMSize="${MEMORY_MB}"/>
        <Firmware type="${isEfi ? "EFI" : "BIOS"}"/>
        <Paravirt provider="Default"/>
        <Display controller="VMSVGA" VRAMSize="16"/>
        <BIOS>
          <IOAPIC enabled="true"/>
        </BIOS>
        <Network>
          <Adapter slot="0" enabled="true" type="82540EM">
            <NAT/>
          </Adapter>
        </Network>
        <AudioAdapter enabled="false"/>
        <RTC localOrUTC="UTC"/>
      </Hardware>
      <StorageControllers>
        <StorageController name="SATA" type="AHCI" PortCount="1" Bootable="true">
          <AttachedDevice type="HardDisk" port="0" device="0">
            <Image uuid="{${uuids.disk}}"/>
          </AttachedDevice>
        </StorageController>
      </StorageControllers>
    </vbox:Machine>
`;
}

/** A piece of hardware. The elements must be in the order of their names: the schema is generated from CIM. */
function item(fields: Readonly<Record<string, string | number | boolean>>): string {
  const lines = Object.entries(fields).map(([name, value]) =>
    `        <rasd:${name}>${value}</rasd:${name}>\n`
  );
  return `      <Item>\n${lines.join("")}      </Item>\n`;
}

/** Text for an element or attribute: what XML does not allow at all is left out. */
function escape(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.toWellFormed().replace(/\p{Cc}|[\ufffe\uffff]/gu, "").replace(/[&<>"]/g, (one) => names[one]!);
}
